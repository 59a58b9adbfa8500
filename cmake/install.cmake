# `cmake --install`: headers, libraries, and how other builds find them. All paths are relative, so the tree may be moved.
include(CMakePackageConfigHelpers)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/bittern)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/bittern DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT bittern_development
        FILES_MATCHING PATTERN "*.h")
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/cmake/third-party-licences.txt DESTINATION ${CMAKE_INSTALL_DOCDIR}
        COMPONENT bittern_runtime)
install(TARGETS bittern EXPORT bittern ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT bittern_development)
if(BITTERN_SHARED)
  install(TARGETS bittern_shared EXPORT bittern
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT bittern_runtime NAMELINK_COMPONENT bittern_development)
endif()

# For CMake: find_package(bittern).
install(EXPORT bittern NAMESPACE bittern:: FILE bitternTargets.cmake DESTINATION ${package_folder} COMPONENT bittern_development)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/bitternConfig.cmake.in ${PROJECT_BINARY_DIR}/bitternConfig.cmake
                              INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/bitternConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/bitternConfig.cmake ${PROJECT_BINARY_DIR}/bitternConfigVersion.cmake DESTINATION ${package_folder}
        COMPONENT bittern_development)

# For pkg-config. A program that links the static library needs the run-time of C++: what this compiler links C++ programs with
# and C programs not.
set(private_libraries ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
list(REMOVE_ITEM private_libraries ${CMAKE_C_IMPLICIT_LINK_LIBRARIES} c gcc gcc_s gcc_eh)
list(REMOVE_DUPLICATES private_libraries)
list(TRANSFORM private_libraries PREPEND "-l")
list(APPEND private_libraries ${CMAKE_THREAD_LIBS_INIT})
if(BITTERN_SANITIZE)
  list(APPEND private_libraries -fsanitize=${BITTERN_SANITIZE})
endif()
list(JOIN private_libraries " " private_libraries)
set(pc_libs "-L\${libdir} -lbittern")
set(pc_libs_private "${private_libraries}")
if(NOT BITTERN_SHARED)  # then every program links the static library
  string(APPEND pc_libs " ${private_libraries}")
  set(pc_libs_private "")
endif()
foreach(kind INCLUDE LIB)
  set(pc_${kind} ${CMAKE_INSTALL_${kind}DIR})
  if(NOT IS_ABSOLUTE "${pc_${kind}}")
    string(PREPEND pc_${kind} "\${prefix}/")
  endif()
endforeach()
set(pc_prefix ${CMAKE_INSTALL_PREFIX})
if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
  string(REGEX REPLACE "/$" "" up "${up}")
  set(pc_prefix "\${pcfiledir}/${up}")
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/bittern.pc.in ${PROJECT_BINARY_DIR}/bittern.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/bittern.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT bittern_development)
