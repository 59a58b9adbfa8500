# bittern_json: the header-only JSON library, needed to build and not to run. Taken from BITTERN_JSON_INCLUDE if that is given,
# else from its CMake package if the system has one, else from the Python package that ships its headers.
add_library(bittern_json INTERFACE)
if(NOT BITTERN_JSON_INCLUDE)
  find_package(nlohmann_json 3.9 CONFIG QUIET)
endif()
if(TARGET nlohmann_json::nlohmann_json)
  target_link_libraries(bittern_json INTERFACE nlohmann_json::nlohmann_json)
else()
  find_package(Python COMPONENTS Interpreter QUIET)
  if(Python_Interpreter_FOUND)
    execute_process(COMMAND ${Python_EXECUTABLE} -c "import nlohmann_json, os; print(os.path.join(list(nlohmann_json.__path__)[0], 'include'))"
                    OUTPUT_VARIABLE json_package OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  find_path(BITTERN_JSON_INCLUDE nlohmann/json.hpp HINTS ${json_package})
  if(NOT BITTERN_JSON_INCLUDE)
    message(FATAL_ERROR "The headers of nlohmann-json were not found. Install the distribution's package (nlohmann-json3-dev) "
                        "or `pip install nlohmann-json`.")
  endif()
  target_include_directories(bittern_json SYSTEM INTERFACE ${BITTERN_JSON_INCLUDE})
endif()
